"""The command `gdmix` and its tables; the only code that knows samples and migration."""
