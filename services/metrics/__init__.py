"""What every number shown is called: label values, and the catalogue of metrics."""
