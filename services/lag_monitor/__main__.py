"""Run the observer."""

from services.runtime.run import main

if __name__ == "__main__":
    main("services.lag_monitor.worker")
