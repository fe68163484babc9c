"""Text of the molecules of a preparation: providers, tables to join, own fields, and the choice of fields."""
