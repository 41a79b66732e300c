"""The services whose files can be brought home. Each folder is one provider; none knows another."""
