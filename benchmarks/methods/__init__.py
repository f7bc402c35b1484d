"""What each training method is worth on the embedded small model."""
