"""Commands for the identities of nodes: invitations, enrolment, and its end."""
