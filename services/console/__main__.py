"""Run the worker."""

from services.runtime.run import main

if __name__ == "__main__":
    main("services.console.worker")
