"""Who may log in: invitations, logins of edges, their renewal and their end."""
