"""Text files as byte streams: members of archives and folders, decompressed, in UTF-8, in lines."""
