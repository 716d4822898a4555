// Step 1: Get presigned URL
const presignResp = await fetch("https://api.socialsyncerapi.com/v1/media/presign", {
  method: "POST",
  headers: {
    "Authorization": "Bearer sk_your_api_key",
    "Content-Type": "application/json"
  },
  body: JSON.stringify({ filename: "photo.jpg", contentType: "image/jpeg" })
});
const { uploadUrl, publicUrl } = await presignResp.json();

// Step 2: Upload file
const fileBuffer = await readFile("photo.jpg");
await fetch(uploadUrl, {
  method: "PUT",
  headers: { "Content-Type": "image/jpeg" },
  body: fileBuffer
});

console.log("Uploaded!", publicUrl);
