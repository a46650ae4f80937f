"""Stands in for a push platform in the demo: takes signed webhooks and shows what came."""
