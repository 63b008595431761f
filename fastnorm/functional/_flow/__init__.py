"""What happens in a call: it is recalled, or its arrays are arranged; a kernel runs; what it wrote is given its shape."""
