"""The limiter: which limits a request meets, one decision for all of them, and what is counted."""
