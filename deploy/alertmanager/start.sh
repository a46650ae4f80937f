#!/bin/sh
# Starts Alertmanager with the pager of a secret file: the address of a webhook that is told each page and ticket, or "none".
set -eu
here=$(dirname "$0")
config=${ALERTMANAGER_CONFIG:-/tmp/alertmanager.yml}
address=$(cat "${ALERT_WEBHOOK_FILE:-/run/secrets/alert_webhook}")

umask 077
case $address in
  none) cat "$here/alertmanager.yml" > "$config" ;;
  *[!A-Za-z0-9._~:/?#@!\$\&*+,\;=%-]*) echo "the file of alert_webhook is no address" >&2; exit 3 ;;
  http://*|https://*)
    while IFS= read -r line; do
      printf '%s\n' "$line"
      case $line in
        "  - name: page" | "  - name: ticket") printf '    webhook_configs: [{url: "%s", send_resolved: true}]\n' "$address" ;;
      esac
    done < "$here/alertmanager.yml" > "$config"
    ;;
  *) echo "the file of alert_webhook has neither an address nor the word none" >&2; exit 3 ;;
esac
exec "${ALERTMANAGER:-/bin/alertmanager}" "--config.file=$config" "$@"
