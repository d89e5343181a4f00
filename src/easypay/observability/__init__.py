"""What the gateway says about itself: logs without card data."""
