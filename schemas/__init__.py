"""The wire: every event opentobuy reads or writes, its topic, its ids and its reason codes."""
