import Uppy from "@uppy/core";
import Dashboard from "@uppy/dashboard";
import GoldenRetriever from "@uppy/golden-retriever";
import BigUpload from "bigupload/uppy";
import "@uppy/core/css/style.min.css";
import "@uppy/dashboard/css/style.min.css";

new Uppy()
  .use(Dashboard, { inline: true, target: "#root", showLinkToFileUploadResult: true })
  .use(GoldenRetriever) // shows after a reload what was chosen before
  .use(BigUpload, {
    endpoint: "https://media.example.com/",
    token: async () => (await (await fetch("/upload-token", { method: "POST" })).json()).token, // of your own backend
  });
