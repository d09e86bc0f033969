"""What is asked of one call, and what comes back."""
