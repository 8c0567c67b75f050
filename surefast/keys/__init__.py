"""All randomness, and the process settings that decide bits."""
