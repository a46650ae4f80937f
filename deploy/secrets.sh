#!/bin/sh
# Makes every secret that docker-compose.yml names and that is not there yet: random but for the pager, and in a folder only you may enter.
# The files themselves are readable, because each container reads its own under another user id.
set -eu
cd "$(dirname "$0")"
mkdir -p secrets
chmod 700 secrets
for name in $(sed -n 's,^ *file: \./secrets/,,p' docker-compose.yml); do
  if [ ! -s "secrets/$name" ]; then
    case $name in
      webhook) secret="whsec_$(head -c 24 /dev/urandom | base64)" ;;
      alert_webhook) secret=none ;; # no pager until you write its address there
      *) secret=$(head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n') ;;
    esac
    printf %s "$secret" > "secrets/$name"
    chmod 644 "secrets/$name"
  fi
done
