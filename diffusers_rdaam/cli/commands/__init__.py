"""One function per command, with its options; what it does is imported only when it runs."""
