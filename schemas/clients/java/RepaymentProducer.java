import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Sends rows of billing's outbox to billing.repayment.v1; one that fails stays in the outbox: run it again. */
public final class RepaymentProducer {
    static final String TYPE = "opentobuy.billing.repayment.RepaymentReported.v1";

    static ProducerRecord<String, String> record(String[] row) {
        var record = new ProducerRecord<>("billing.repayment.v1", row[0], row[4]);
        Map.of("ce_specversion", "1.0", "ce_id", row[1], "ce_source", "/" + row[2], "ce_type", TYPE, "ce_time", row[3],
               "ce_subject", row[0], "ce_dataschema", "/schemas/" + TYPE + ".json", "content-type", "application/json")
            .forEach((name, text) -> record.headers().add(name, text.getBytes(UTF_8)));
        return record;
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
             var rows = new BufferedReader(new InputStreamReader(System.in, UTF_8))) {
            var sent = rows.lines().map(line -> producer.send(record(line.split("\t", 5)))).toList();
            for (var each : sent) each.get();
        }
    }
}
