"""Templates: a prompt in words with slots, and the library of them."""
