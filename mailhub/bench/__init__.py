"""What `manage.py benchmark` does: measures MailHub on this machine, beside the least that any program does and beside others."""
