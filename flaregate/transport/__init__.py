"""How the SDK talks HTTP: requests and answers as functions without I/O, and two thin shells that send them."""
