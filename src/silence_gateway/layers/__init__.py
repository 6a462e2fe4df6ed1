"""What happens to every request, one file each; files here do not know each other."""
