"""What a driver, toolchain, image builder and blob store must offer: protocols and the data that cross them."""
