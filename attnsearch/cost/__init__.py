"""What an architecture costs: counted operations, memory traffic, measured latency; a whole space in one table."""
