import httpx

# Step 1: Get presigned URL
resp = httpx.post(
    "https://api.socialsyncerapi.com/v1/media/presign",
    headers={"Authorization": "Bearer sk_your_api_key"},
    json={"filename": "photo.jpg", "contentType": "image/jpeg"}
)
data = resp.json()
upload_url = data["uploadUrl"]
public_url = data["publicUrl"]

# Step 2: Upload file directly to S3
with open("photo.jpg", "rb") as f:
    httpx.put(
        upload_url,
        headers={"Content-Type": "image/jpeg"},
        content=f.read()
    )

print(f"Uploaded! Public URL: {public_url}")
