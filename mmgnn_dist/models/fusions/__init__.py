"""How atom vectors and text are joined: one base class, one factory."""
