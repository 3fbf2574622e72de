"""Where units meet."""
