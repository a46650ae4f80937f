"""Tests by what they prove."""
