"""What receivers report of our domains: who sends in their name (DMARC aggregate reports), and whether TLS could be spoken (TLS-RPT)."""
