"""The multipart stores: ways to create, sign, list and complete an upload. They implement `ports.MultipartStore`."""
