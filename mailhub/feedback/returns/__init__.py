"""Mails that came to nothing, counted: by day, relay, destination, batch, category, and by the words in which they were refused."""
