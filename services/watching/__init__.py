"""What watches the pipeline: rules, alerts and dashboards, all generated from the catalogue of metrics."""
