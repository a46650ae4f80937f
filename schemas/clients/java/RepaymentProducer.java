import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

import static java.nio.charset.StandardCharsets.UTF_8;

/** Sends rows of billing's outbox, read from standard input, to billing.repayment.v1. */
public final class RepaymentProducer {
    static final String TYPE = "opentobuy.billing.repayment.RepaymentReported.v1";

    static ProducerRecord<byte[], byte[]> record(String[] row) {
        var record = new ProducerRecord<>("billing.repayment.v1", row[0].getBytes(UTF_8), row[4].getBytes(UTF_8));
        Map.of("ce_specversion", "1.0", "ce_id", row[1], "ce_source", "/" + row[2], "ce_type", TYPE, "ce_time", row[3],
               "ce_subject", row[0], "ce_dataschema", "/schemas/" + TYPE + ".json", "content-type", "application/json")
            .forEach((name, text) -> record.headers().add(name, text.getBytes(UTF_8)));
        return record;
    }

    /** A row that fails is still in the outbox: run it again. */
    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true);
        var bytes = new ByteArraySerializer();
        try (var producer = new KafkaProducer<>(settings, bytes, bytes);
             var rows = new BufferedReader(new InputStreamReader(System.in, UTF_8))) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            rows.lines().forEach(line -> sent.add(producer.send(record(line.split("\t", 5)))));
            for (var each : sent) {
                each.get();
            }
        }
    }
}
