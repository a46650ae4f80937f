"""Run the receiver: `python -m services.push_sink`; its secret is OTB_WEBHOOK_SECRET or its _FILE."""

import sys

from aiohttp import web

from services.push_sink.receiver import receiver
from services.runtime.errors import ConfigurationError
from services.runtime.settings import load_settings, secret

PORT = 8080


def main() -> int:
    """Serve until stopped; 3 when the secret is missing."""
    try:
        settings = load_settings()
        key = secret(settings.webhook_secret, settings.webhook_secret_file)
        if key is None:
            raise ConfigurationError("the receiver needs OTB_WEBHOOK_SECRET or OTB_WEBHOOK_SECRET_FILE")
    except (ConfigurationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    web.run_app(receiver(key), port=PORT, print=None, access_log=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
