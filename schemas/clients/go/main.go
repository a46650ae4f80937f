// Sends rows of billing's outbox, read from standard input, to billing.repayment.v1.
package main

import (
	"bufio"
	"bytes"
	"context"
	"log"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
)

const kind = "opentobuy.billing.repayment.RepaymentReported.v1"

func record(row [][]byte) *kgo.Record {
	found := &kgo.Record{Topic: "billing.repayment.v1", Key: row[0], Value: row[4]}
	for _, header := range [][2]string{
		{"ce_specversion", "1.0"}, {"ce_id", string(row[1])}, {"ce_source", "/" + string(row[2])}, {"ce_type", kind},
		{"ce_time", string(row[3])}, {"ce_subject", string(row[0])}, {"ce_dataschema", "/schemas/" + kind + ".json"},
		{"content-type", "application/json"},
	} {
		found.Headers = append(found.Headers, kgo.RecordHeader{Key: header[0], Value: []byte(header[1])})
	}
	return found
}

// A row that fails is still in the outbox: run it again.
func main() {
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.RequiredAcks(kgo.AllISRAcks()))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	rows := bufio.NewScanner(os.Stdin)
	rows.Buffer(nil, 1<<20)
	var records []*kgo.Record
	for rows.Scan() {
		records = append(records, record(bytes.SplitN(bytes.Clone(rows.Bytes()), []byte("\t"), 5)))
	}
	if err := client.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		log.Fatal(err)
	}
}
