"""The otb command: everything a person does with opentobuy from a terminal."""
