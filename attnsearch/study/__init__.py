"""The driver: runs searches, ablations and audits along the line, and reads studies back."""
