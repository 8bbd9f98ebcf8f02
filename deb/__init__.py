"""The Debian package: one file for Debian 12 and 13, made of the wheel and of what the wheel depends on."""
