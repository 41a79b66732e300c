"""Real HTTP on this machine that answers as a service does, and misbehaves on order."""
