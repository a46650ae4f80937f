"""Stand-ins for images that cannot be pulled: the same commands and folders on what wheels and jars bring."""
