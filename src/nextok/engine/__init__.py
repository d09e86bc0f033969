"""What runs strategies: many requests in one forward pass, or one request without batch and cache."""
