"""Sentences of Django's own that our catalogue says in another way: without spaces around names, without "you" and "object".

Nothing imports this. makemessages finds them here, and a catalogue of LOCALE_PATHS goes before Django's."""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

# Lists and forms of the admin.
_("Add %s")
_("Change %s")
_("View %s")
_("Select %s")
_("Select %s to change")
_("Select %s to view")
_("Add another %(verbose_name)s")
_("Change selected %(model)s")
_("Add another %(model)s")
_("Delete selected %(model)s")
_("View selected %(model)s")
_("Delete selected %(verbose_name_plural)s")
_("Select all %(total_count)s %(module_name)s")
_("Delete multiple objects")
_("Cannot delete %(name)s")
_("%(app)s administration")
_("Change history: %s")
_("None")

# What was done.
_("The {name} “{obj}” was added successfully.")
_("You may edit it again below.")
_("The {name} “{obj}” was added successfully. You may add another {name} below.")
_("The {name} “{obj}” was changed successfully.")
_("The {name} “{obj}” was changed successfully. You may edit it again below.")
_("The {name} “{obj}” was changed successfully. You may add another {name} below.")
_("The %(name)s “%(obj)s” was deleted successfully.")
_("Successfully deleted %(count)d %(items)s.")
_("%(name)s with ID “%(key)s” doesn’t exist. Perhaps it was deleted?")
_("Added.")
_("Added {name} “{object}”.")
_("Changed {fields}.")
_("Changed {fields} for {name} “{object}”.")
_("Deleted {name} “{object}”.")

# Forms.
_("This field is required.")
_("Delete?")
_("%(model_name)s with this %(field_label)s already exists.")

# Users.
_("Authentication and Authorization")
_("log entry")
_("log entries")
_("Hold down “Control”, or “Command” on a Mac, to select more than one.")
_("Permissions")
_("permission")
_("permissions")
_("user permissions")
_("staff status")
_("Designates whether the user can log into this admin site.")
_("Designates whether this user should be treated as active. Unselect this instead of deleting accounts.")
_("Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.")

# Logging in, and a forgotten password.
_("Please enter the correct %(username)s and password for a staff account. Note that both fields may be case-sensitive.")
_("Your password can’t be too similar to your other personal information.")
_("Password change")
_("Reset password")
_("Password reset")
_("Password reset sent")
_("Password reset unsuccessful")
_("Password reset complete")
_("Password reset on %(site_name)s")
_("You're receiving this email because you requested a password reset for your user account at %(site_name)s.")
_("Please go to the following page and choose a new password:")
_("In case you’ve forgotten, you are:")
_("Thanks for using our site!")
_("The %(site_name)s team")
