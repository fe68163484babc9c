"""Text of a molecule: sentences from its fields, token sidecars, files of an encoder."""
