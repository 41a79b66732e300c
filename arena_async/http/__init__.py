"""The network: one session per client, its login, its pages and its bodies. It knows no service and no file system."""
