// Sends rows of billing's outbox to billing.repayment.v1; one that fails stays in the outbox: run it again.
package main

import (
	"bufio"
	"context"
	"errors"
	"log"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

const kind = "opentobuy.billing.repayment.RepaymentReported.v1"

func record(row []string) *kgo.Record {
	found := &kgo.Record{Topic: "billing.repayment.v1", Key: []byte(row[0]), Value: []byte(row[4])}
	for name, text := range map[string]string{"ce_specversion": "1.0", "ce_id": row[1], "ce_source": "/" + row[2],
		"ce_type": kind, "ce_time": row[3], "ce_subject": row[0], "ce_dataschema": "/schemas/" + kind + ".json",
		"content-type": "application/json"} {
		found.Headers = append(found.Headers, kgo.RecordHeader{Key: name, Value: []byte(text)})
	}
	return found
}

func main() {
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1])) // idempotent, acknowledged by all: its defaults
	rows, records := bufio.NewScanner(os.Stdin), []*kgo.Record{}
	rows.Buffer(nil, 1<<20)
	for rows.Scan() {
		records = append(records, record(strings.SplitN(rows.Text(), "\t", 5)))
	}
	if err = errors.Join(err, rows.Err()); err == nil {
		err = client.ProduceSync(context.Background(), records...).FirstErr()
	}
	if err != nil {
		log.Fatal(err)
	}
}
