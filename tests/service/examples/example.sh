# Step 1: Get presigned URL
curl -X POST https://api.socialsyncerapi.com/v1/media/presign \
  -H "Authorization: Bearer sk_your_api_key" \
  -H "Content-Type: application/json" \
  -d '{"filename": "photo.jpg", "contentType": "image/jpeg"}'

# Step 2: Upload to S3
curl -X PUT "PRESIGNED_URL" \
  -H "Content-Type: image/jpeg" \
  --data-binary @photo.jpg

# Step 3: Create post with the public URL
curl -X POST https://api.socialsyncerapi.com/v1/posts \
  -H "Authorization: Bearer sk_your_api_key" \
  -H "Content-Type: application/json" \
  -d '{
    "content": "Check out this photo!",
    "mediaItems": [{"type": "image", "url": "PUBLIC_URL"}],
    "platforms": [{"platform": "instagram", "accountId": "ig_123"}],
    "publishNow": true
  }'
