"""Plain values that every room shares, and the checks, seeds and errors that go with them; no torch."""
