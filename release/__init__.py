"""What a release needs: dated files, checked archives, other versions of what the package needs."""
