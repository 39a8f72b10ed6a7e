"""Before the long run: what it will take, at which learning rate, and at which size. Three commands."""
