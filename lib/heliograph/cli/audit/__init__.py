"""Commands that read and verify the audit."""
