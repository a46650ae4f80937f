"""The compose file on a real engine, with images built here: run by .ci/run only."""
