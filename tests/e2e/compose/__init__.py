"""The compose file on a real engine, with images built here: run by `make engine`, on a build machine too."""
